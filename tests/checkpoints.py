"""Checkpoints as the loop keeps them, and tasks that are thrown away and taken up again in the middle of a log."""


def keep(changed, items):
    """Keep the newest of each item a task wrote down, as compaction does."""
    for name, data in changed:
        if data is None:
            items.pop(name, None)
        else:
            items[name] = data


def outputs_with_restores(log, cuts, dice, *, thrown=0.7):
    """Feed what a log holds to a task that is written down at `cuts`, and mostly thrown away and taken up again there.

    Args:
        thrown: how often it is thrown away where it is written down.

    Returns:
        what it said, and what it has written down at the end.
    """
    task, items, outputs = log.new_task(), {}, []
    for number, item in enumerate(log.items):
        if number in cuts:
            keep(task.changed(), items)
            if dice.random() < thrown:
                shuffled = list(items.items())
                dice.shuffle(shuffled)
                task = log.new_task()
                task.restore(shuffled)
        outputs += task.handle(item)
    keep(task.changed(), items)
    return outputs, items


def written_at_once(log):
    """Return what a task writes down that read the whole log before it did so for the first time."""
    task, items = log.new_task(), {}
    for item in log.items:
        task.handle(item)
    keep(task.changed(), items)
    return items
