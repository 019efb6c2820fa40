"""Its being here puts this folder on the import path: tests below import `plane` and `bad_inputs`."""
