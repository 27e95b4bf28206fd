"""Conversations, the chat template, token ids with the loss mask. May import: core."""
