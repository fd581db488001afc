"""What server and clients send each other, in records of Flower: written, checked, read."""
