"""What came of what was sent: reasons in words, beacons and their limits, answers that people read; pure."""
