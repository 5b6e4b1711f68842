"""What a program declares: operations, events, subscriptions, and the service that holds them.

Nothing here connects, waits or starts: importing a program's declarations is free, and two
instances of them can live in one process. `service.py` is where to begin reading.
"""
