"""What every part may know of the contracts beside the generated messages: policies by method, and Envoy's messages."""
