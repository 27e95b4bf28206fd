"""What answers prompts: local models, recorded outputs. May import: core, chat, model, results."""
