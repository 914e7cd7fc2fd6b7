/* Opening files below a directory, whatever their path says. */
#ifndef KRT_BENEATH_H
#define KRT_BENEATH_H

/* Opens the file that |path| names below the directory |dir_fd|, for reading and without blocking.
 * Symbolic links are followed while they stay below; ".." and links cannot lead out, also when
 * directories are exchanged meanwhile. -1 and errno: EXDEV it would lead out, ELOOP too many links,
 * others of the system calls. Thread: any. */
int krt_open_beneath(int dir_fd, const char *path);

/* The same, name by name: for kernels without openat2(2), and where a filter refuses it, since no
 * filter can see its arguments (systemd's RestrictSUIDSGID=). */
int krt_walk_beneath(int dir_fd, const char *path);

#endif
