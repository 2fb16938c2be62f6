"""Everything that is kept: killed, on a full disk, damaged; and what comes back is the same or an error."""
