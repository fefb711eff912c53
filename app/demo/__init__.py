"""`make demo`: failed tasks recover before your eyes, and a worker dies in the middle of it.

__main__.py  from the empty folder to the exit code
play.py      what is done, in which order
plot.py      which tasks are sent, what goes wrong with each, what must come of it
stage.py     the folder, the settings, the processes
hands.py     what a worker has in its hands at a moment
watch.py     what is new in the ledger
evidence.py  what all witnesses say in the end
checks.py    is it true?
show.py      what is printed
texts.py     the same in Chinese
neighbour.py whether somebody else uses the same data
"""
