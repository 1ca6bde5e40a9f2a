"""`inpo game`: where its games come from, and how they are shown."""
