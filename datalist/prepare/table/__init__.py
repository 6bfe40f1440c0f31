"""Tables of tags as people have them: `text` reads, `column` and `header` know what headings say,
`layout` decides."""

from datalist.prepare.table.layout import Layout, Table, TableFlags, read_grid, read_table
