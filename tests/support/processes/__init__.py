"""Commands and programs as processes of their own: started, watched, frozen and killed; and waiting for a condition.

Begin with `command_desk` for what a person types, `program` for what runs until a test stops it.
"""
