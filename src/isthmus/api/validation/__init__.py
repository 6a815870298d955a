"""The rules of each kind: what its types cannot say."""
