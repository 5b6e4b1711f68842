"""The measured programs that are written with other libraries; they run in an environment of their own."""
