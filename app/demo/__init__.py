"""`make demo`: failed tasks recover before your eyes.

__main__.py  from the empty folder to the exit code
stage.py     the folder, the settings, the processes
plot.py      which tasks are sent, what goes wrong, what must come of it
watch.py     what is new in the ledger
checks.py    is it true?
show.py      what is printed
texts.py     the same in Chinese
"""
