"""The measured programs that are written with posthouse: its public face, typed handlers, nothing else."""
