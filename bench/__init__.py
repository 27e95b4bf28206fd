"""Speed, memory and results side by side with peers, each in an environment of its own."""
