"""Who reacts: the relay from the outboxes to the broker, and the workers that turn each event into one effect.

What holds for all workers: an event is delivered at least once and takes effect once (for mail see
`worker.handlers.email.handler`). The relay publishes the events of one ordering key in their order, and a queue keeps
it, but a retry does not: an event that waits in the retry queue is overtaken by the later ones of its key, since only
it failed and nobody else's work waits for it. So no handler may rely on order: sums commute, mails stand for
themselves, and an audit record has its place by arrival and its own time.
"""
