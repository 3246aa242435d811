"""Cache-aside in Memcached: what the contracts say may be kept is kept here, and forgotten when it changes.

Use cases read through `cached_reads.cached` and do nothing else; what a method's `invalidates` names is forgotten by
the server when its handler has ended, and once more by the relay when the event of the change goes out. What holds:

- The cache is never needed. A node that is down, stopped, slow, full or lying is a miss; it costs at most a few tens of
  milliseconds, and after that is left alone for a while. No write fails or waits because of it for longer.
- Nothing outdated is filled in. Who misses takes a lease (`mg` with N) *before* it takes its snapshot of the database;
  a deletion takes the lease away; what was loaded is stored only under a lease that still stands (`ms` with C), at the
  same incarnation of the node: a node that was started anew counts its leases from one again.
- One load for each key at a time: in the process by `single_flight`, in the fleet by the lease. Others wait for it for
  a moment, and load for themselves where it takes longer. An entry that is about to expire is renewed by one caller
  (`mg` with R) while the others are still served what is not yet too old.
- A value proves that one of us wrote it, for this key, this form of the answer and this subject; another is a miss, is
  counted, and is overwritten.
- A key has one node, always the same. A dead node's keys do not move to another one, where they would be found outdated
  after the next move. What a node could not be told to forget is owed to it, and paid before anything is read from it.
"""
