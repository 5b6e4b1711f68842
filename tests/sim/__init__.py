"""Deterministic simulation: the real runtime on a simulated loop, clock and network, with all chance from a seed.

Several processes live in one loop. Each is a whole host; it may die at any commit and at any message, and nothing of
it takes another step then. What they share outlives them: the broker, the stores' disk, the history.

    processes   what a process is, and how it dies
    network     carries direct frames, and loses, repeats, delays and reorders them
    posts       the host of a process: its transport, its registry and its store, all with points at which it may die
    services    what is asked: three services whose handlers do what the request says
    plans       what a seed stands for: who is there, what is asked and when, and what goes wrong
    world       brings it all together: lives through a plan, then lets everything heal and settle
    judge       what must hold then
    restores    ... also where stores were put back
    run         lives through plans
    rows        each change of a row is a step that protocol/ knows
    news        events: what is told, who hears it, and what must have come of it
    news_rows   what may become of streams and feeds in a step

`python -m tests.sim --seed N --trace` lives through one plan and shows what happened.
"""
