"""Flags and tables that several tools share."""
