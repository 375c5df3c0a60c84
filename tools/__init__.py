"""What the checks of this repository are made of; nothing here is shipped."""
