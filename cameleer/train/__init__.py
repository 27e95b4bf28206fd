"""Fine-tuning: loss, optimizer, loop, checkpoints. May import: core, chat, data, model."""
