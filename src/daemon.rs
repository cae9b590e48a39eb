//! `familiar run`: joins the parts along the path of the data.
