"""The instruction experiment of Kirk et al.: AlpacaFarm (id), AlpacaEval (ood), Sequential Instructions (ood_hard)."""
