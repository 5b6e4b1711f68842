"""One file a job: who takes part, how one run of it goes, and what we aim at."""
