"""`train proof`: that the loss is right, shown on the user's own configuration and conversations.

What training does is compared with a plain restatement that shares none of its code
(`restated.py`): the template as its own Jinja text, the mask found in that text, each conversation
alone through the model's own attention, all logits, log-softmax, and weights worked out by hand.
Everything is shown twice: in float32, where hardly anything may differ, and in the run's own
precision, where as much may differ as rounding itself makes of the restatement.
"""
