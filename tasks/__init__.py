"""What is asked: one folder a suite, one lm-eval YAML a task. No harness code lives here."""
