"""The end-to-end protocol as a program that visits every reachable state within small bounds.

It holds the rules of `docs/explanation/protocol.md` and nothing else: no code of posthouse is run here.
A change of a rule is made here first, then in the code. `config` says which worlds there are, `state` what
a world looks like, `caller` and `replier` what the two services do, `faults` what befalls them,
`invariants` what must hold, `configurations` which worlds are visited, and `checker` visits them.

    python -m tests.model --quick
"""
