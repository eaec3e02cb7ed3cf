"""The summarisation experiment of Kirk et al.: TL;DR (id) and CNN/DailyMail (ood)."""
