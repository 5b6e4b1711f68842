"""Lives through the plan of one seed: `python -m tests.sim --seed N --trace`."""
