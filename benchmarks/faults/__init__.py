"""What the library does when it is killed, when the disk fails, and when it is lied to."""
