"""What stands alone in an exported folder: copied there as it is, imports no other."""
