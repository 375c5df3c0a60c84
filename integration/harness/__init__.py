"""What the tests of whole clusters share: where hosts come from, and the client on one of them."""
