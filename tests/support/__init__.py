"""What the tests of every room stand on, in rooms of its own.

servers     real servers, each gone with the test run: PostgreSQL with what stands around it, Valkey, TLS; the stand-ins
simulator   the product's simulator, watched: it writes every call down, and loses answers on demand
processes   `command_desk` for what a person types, `program` for what runs until a test stops it; and waiting
fleets      what works through a batch: as real processes, as a test says, or in virtual time
judges      who says whether a promise was broken, and the evidence for it: `verdict` calls all of them
data        `batches` writes a batch straight into the tables, `loading` loads one from a file, as a person does
pages       the pages of the documentation, as those who check them read them
"""
