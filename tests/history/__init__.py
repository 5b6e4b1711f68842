"""The history checker: what was seen of a run goes in, what breaks a promise comes out.

`events` holds the records and their files, `story` puts them together, `rules` and `order` say what must hold,
`checker` judges. `worlds` makes good histories, to test the checker itself with. A storm uses it like this:

    recorder = Recorder.to_file(folder, "client")  # one in each process; a simulation: Recorder("all", list.append)

    recorder.note(Invoked(op, caller="shop", service="prices", key=sku))
    try:
        price = await client.call(quote, Order(op, sku))
    except PosthouseError as error:
        recorder.note(refused(op, error))
    else:
        recorder.note(Told(op, "done", price.value, echo=price.op))  # when a send returns: Told(op, "stored")

    @prices.handler  # it writes (op, value, run) in its own transaction
    async def quote(order: Order, ctx: Context) -> Price:
        recorder.note(Began(order.op, "prices", run := new_id(), ctx.attempt))
        ...

    recorder.note(Fault("restore", "prices", backup_at=begun))  # and then the backup is put in place

    # At the end, when all processes have stopped, whoever reads the stores:
    recorder.note(Effect(op, "prices", sequence=rowid, value=value, run=run))  # of a replier
    recorder.note(Applied(op, "done", value))  # of a caller whose requests say `applies`
    recorder.note(Acked(op))  # of a replier that hears acks
    recorder.note(Left("prices", open=0, held=0))  # of every store

    report = check(read(folder), "exactly_once")
    assert not report.findings, report
    assert report.counts.done > 1900, report  # else the run has shown nothing

What the writers mind:

- `Invoked`, `Began` and `Fault` are noted before the thing itself, `Told` after it: a process that dies in between
  has noted a request that was perhaps never made, but never missed one that was.
- An operation has an id of the test's own, which travels in the data, and is new for each request; also when an
  application asks again for what its restored store has forgotten. A good value is made from the id.
- An effect is a row that says "done"; what a handler keeps when it returns a Reject is none. Effects are read once.
- After a restore, all outcomes are asked for again before the end, and noted: an effect that is gone counts as lost
  (L1) unless somebody was told of the conflict.
- What a handler sends is stored only if the handler commits. `Invoked` is noted in the handler, with an id of its
  own in each run; at the end, and with the time of the end, its database says whether it was `Told(op, "stored")`
  or `Told(op, "not stored")`.
- What a handler is told of a call is `provisional=True`, as long as there are restores: its run may not commit.
- A delayed request notes no key: its place in the order is that of its day. What waits behind a parked request
  of its key is found as lost, so parked ones are replayed or rejected before the end, or have no key.
- A backup of a history that an earlier restore has dropped is not put in place: no rule excuses that.
- A power cut that costs a store what it had committed, and gives it a new epoch, is a restore.
- A run that does not wait until all is at rest says `quiet=False`; then L1 and L2 are not judged.

What a promise allows, and is worth a number (duplicates in `at_least_once`, losses by a wipe or a restore), is in
`report.counts`; a test compares it with what it expects, for instance `lost > 0` where an engine was wiped.

What the checker cannot see: an effect that a restore took away again; the order of requests that were made at
once; how long anything took; events.
"""
