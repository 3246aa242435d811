"""`weft replay`: a file of real orders goes through the front door, and the books must balance afterwards.

lines reads the file, plan decides what each line means, client and run carry the plan out through the gateway,
balance compares what every part says happened.
"""
