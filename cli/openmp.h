// How OpenMP's threads wait for each other.
#pragma once

namespace lathe {

/// libgomp's threads spin some milliseconds at the end of each parallel part. Where another program
/// shares the cores, each then waits for one that has none: training was seen to be many times
/// slower. A short spin costs nothing on free cores. libgomp reads its environment before main, so
/// this sets it and starts the program anew; a choice that the user has made stays.
void shorten_openmp_spin(char** argv);

}  // namespace lathe
