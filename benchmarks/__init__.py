"""Measurements that anyone can repeat: `make bench`. Each also runs small inside the tests."""
