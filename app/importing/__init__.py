"""Take ONNX graphs of others: look through them, bring them into the form in which all graphs are served."""
