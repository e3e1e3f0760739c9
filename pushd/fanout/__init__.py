"""Fan-out: from an audience at its release to a committed outcome for every device, in batches pulled by credit."""
