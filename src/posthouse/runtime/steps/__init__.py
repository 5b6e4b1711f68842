"""What happens within one transaction of a store: the rules of protocol/, put to the books.

A step takes `Books` and what has come together in a turn of the loop, and returns what is to be done when
it has committed. It changes nothing but the books, since it may be run again; nothing here waits or sends.

    asking      calls are stored, and numbered
    canceling   a caller does not want a call any more
    applying    answers of repliers are taken in
    receiving   requests, deposits, acks and cancels of callers are taken in
    deciding    runs of handlers end
    here        what a step knows of its process
    wire        journaled messages and their stamps
    ticket      who waits for what comes of a call
"""
