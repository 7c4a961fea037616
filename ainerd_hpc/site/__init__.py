"""What is special about a machine: its site file, the job of this process, its memory and its speed."""
