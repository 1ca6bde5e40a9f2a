"""What computes: the face that every engine has, and a folder for each. Who may use one is `swapping`'s part."""
