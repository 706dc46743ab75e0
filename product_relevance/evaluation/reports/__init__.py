"""What a person reads of a run or a file: tables, pictures, report.md and the page of errors."""
