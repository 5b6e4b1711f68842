"""Journaled delivery at work: the steps of runtime/steps are run here, on a store, and what follows is sent.

journals    the journals of a process
journal     one service's journal: its store, and the two sides below
outbox      the caller's side: stores calls, sends them, tells those who wait
relay       sends again, acks, takes over from instances that died
inbox       the replier's side: stores requests, claims them, decides them, answers
courier     where a frame goes: to an instance that is there, or into a queue
attempt     what stands behind a Context whose delivery is journaled
ending      what the end of such a handler means
hearing     what a handler that hears a reply or an ack is given
"""
