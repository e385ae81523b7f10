# SPDX-License-Identifier: BSD-3-Clause
# Copyright(c) 2026 the dpdk-uio-secondary authors

# Plot the bus master bit over time, from the files of `tests/consumer/consume --watch DIR`:
#   gnuplot -e 'folder="DIR"' doc/bus-master.gnuplot > bus-master.svg

set terminal svg size 720,260 background "white" font "sans,12"
set xlabel "seconds since the primary set the bit"
set ytics ("off" 0, "on" 1, "off" 2, "on" 3)
set yrange [-0.4:3.6]
set xrange [-0.2:*]
set key off
set border 3
set tics nomirror out
set label 1 "patched" at graph 0.99, first 3.3 right
set label 2 "stock" at graph 0.99, first 1.3 right
# Lines of transitions: time, device, on or off, COMMAND.
table = "< awk '$3 == \"on\" || $3 == \"off\" {if (!n++) t = $1; print $1 - t, $3 == \"on\"}' ".folder
plot table."/stock-shared.txt" using 1:2 with steps lw 2 lc rgb "#b03030", \
     table."/stock-shared.txt" using 1:2 with points pt 7 ps 0.5 lc rgb "#b03030", \
     table."/patched-shared.txt" using 1:($2 + 2) with steps lw 2 lc rgb "#206020", \
     table."/patched-shared.txt" using 1:($2 + 2) with points pt 7 ps 0.5 lc rgb "#206020"
