"""The report's figures, each drawn from runs and handed over with its name and caption."""
