"""Stage 4: combines instruments into intents, and decides about money.

Two pure tasks, each over one sequenced log (reads -> writes, key):

* strategies: `decision.input` (its shard: quotes, depth, ticks, configuration, outcomes, time)
  -> `decision.edge` (link), `decision.account` (account set: intents).
* accounts: `decision.account` (intents, order events, reports, marks of what is held, configuration, time)
  -> `decision.order` (venue account: grants, cancels, beats), `decision.saga` (intent), `decision.ledger` (entry).

Promises: all legs of an intent are reserved at once or it is refused with a word of `admission.Refusal`; capital moves
once per venue fill id; a reservation ends only with a terminal order event whose fills equal the venue's cumulative
figure; no timer releases anything; what is admitted keeps within every budget, and what a limit, silence or a human
stopped stays so until a human resumes it. State is rebuilt by reading the log from its start; ids are hashes of places in it.
"""
