"""When: wall times, recurrences, releases, preferred hours, quiet hours and caps; pure, time is an argument."""
