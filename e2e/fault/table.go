package fault

import "golang.org/x/sys/unix"

// callSpec is one call of the table.
type callSpec struct {
	name string
	// where selects which of its calls stop the program.
	where condition
	// describe makes a point of a call; false if the call changes nothing.
	describe func(*sysCall) (Point, bool)
	data     dataForm
	// receives marks calls that may receive an answer that must be forged.
	receives bool
}

// dataForm says how the arguments refer to the call's data.
type dataForm int

const (
	noData      dataForm = iota
	dataFlat             // file, buffer, length
	dataVector           // file, vector, count
	dataMessage          // file, struct msghdr
	dataMany             // file, array of struct mmsghdr, count
)

// none stands for an argument that a call does not have.
const none = -1

// openFlags are the flags that create or empty a file. O_TMPFILE includes O_DIRECTORY, which alone is harmless.
const openFlags = unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY

// calls returns the table of the calls that may be points. If answers are forged, it includes the calls that receive.
func calls(forging bool) map[int]callSpec {
	table := oldCalls()
	if table == nil {
		table = map[int]callSpec{}
	}
	add := func(more map[int]callSpec) {
		for number, spec := range more {
			table[number] = spec
		}
	}
	add(writingCalls())
	add(pathCalls())
	add(otherCalls())
	if forging {
		add(map[int]callSpec{
			unix.SYS_READ:     {name: "read", data: dataFlat, receives: true},
			unix.SYS_READV:    {name: "readv", data: dataVector, receives: true},
			unix.SYS_RECVFROM: {name: "recvfrom", data: dataFlat, receives: true},
			unix.SYS_RECVMSG:  {name: "recvmsg", data: dataMessage, receives: true},
		})
	}
	return table
}

// writingCalls returns the calls that put data into an open file or socket.
func writingCalls() map[int]callSpec {
	return map[int]callSpec{
		unix.SYS_WRITE:    {name: "write", describe: writes("write", 0), data: dataFlat},
		unix.SYS_PWRITE64: {name: "pwrite64", describe: writes("write", 0), data: dataFlat},
		unix.SYS_WRITEV:   {name: "writev", describe: writes("write", 0), data: dataVector},
		unix.SYS_PWRITEV:  {name: "pwritev", describe: writes("write", 0), data: dataVector},
		unix.SYS_PWRITEV2: {name: "pwritev2", describe: writes("write", 0), data: dataVector},
		unix.SYS_SENDTO:   {name: "sendto", describe: sends, data: dataFlat},
		unix.SYS_SENDMSG:  {name: "sendmsg", describe: sends, data: dataMessage},
		unix.SYS_SENDMMSG: {name: "sendmmsg", describe: sends, data: dataMany},
		unix.SYS_CONNECT:  {name: "connect", describe: connects},

		unix.SYS_SENDFILE:        {name: "sendfile", describe: writes("write", 0)},
		unix.SYS_COPY_FILE_RANGE: {name: "copy_file_range", describe: writes("write", 2)},
		unix.SYS_SPLICE:          {name: "splice", describe: writes("write", 2)},
		unix.SYS_FTRUNCATE:       {name: "ftruncate", describe: writes("truncate", 0)},
		unix.SYS_FALLOCATE:       {name: "fallocate", describe: writes("allocate", 0)},
		unix.SYS_FCHMOD:          {name: "fchmod", describe: writes("chmod", 0)},
		unix.SYS_FCHOWN:          {name: "fchown", describe: writes("chown", 0)},
		unix.SYS_FSYNC:           {name: "fsync", describe: syncs},
		unix.SYS_FDATASYNC:       {name: "fdatasync", describe: syncs},
	}
}

// pathCalls returns the calls that change directories and names.
func pathCalls() map[int]callSpec {
	return map[int]callSpec{
		unix.SYS_OPENAT:    {name: "openat", describe: opens(0, 1, 2), where: flagsIn(2, openFlags)},
		unix.SYS_OPENAT2:   {name: "openat2", describe: opens2},
		unix.SYS_TRUNCATE:  {name: "truncate", describe: onPath("truncate", none, 0)},
		unix.SYS_RENAMEAT:  {name: "renameat", describe: onPaths("rename", 0, 1, 2, 3)},
		unix.SYS_RENAMEAT2: {name: "renameat2", describe: onPaths("rename", 0, 1, 2, 3)},
		unix.SYS_UNLINKAT:  {name: "unlinkat", describe: unlinks},
		unix.SYS_MKDIRAT:   {name: "mkdirat", describe: onPath("mkdir", 0, 1)},
		unix.SYS_LINKAT:    {name: "linkat", describe: onPaths("link", 0, 1, 2, 3)},
		unix.SYS_SYMLINKAT: {name: "symlinkat", describe: symlinks(0, 1, 2)},
		unix.SYS_MKNODAT:   {name: "mknodat", describe: onPath("mknod", 0, 1)},
		unix.SYS_FCHMODAT:  {name: "fchmodat", describe: onPath("chmod", 0, 1)},
		unix.SYS_FCHMODAT2: {name: "fchmodat2", describe: onPath("chmod", 0, 1)},
		unix.SYS_FCHOWNAT:  {name: "fchownat", describe: onPath("chown", 0, 1)},
		unix.SYS_SETXATTR:  {name: "setxattr", describe: onPath("setxattr", none, 0)},
	}
}

// otherCalls returns mounts, programs, signals and the old calls that change links and iptables.
func otherCalls() map[int]callSpec {
	return map[int]callSpec{
		unix.SYS_MOUNT:         {name: "mount", describe: mounts},
		unix.SYS_UMOUNT2:       {name: "umount2", describe: onPath("umount", none, 0)},
		unix.SYS_MOVE_MOUNT:    {name: "move_mount", describe: onPaths("move_mount", 0, 1, 2, 3)},
		unix.SYS_MOUNT_SETATTR: {name: "mount_setattr", describe: onPath("mount_setattr", 0, 1)},
		unix.SYS_PIVOT_ROOT:    {name: "pivot_root", describe: onPaths("pivot_root", none, 0, none, 1)},
		unix.SYS_EXECVE:        {name: "execve", describe: execs(none, 0, 1, 2)},
		unix.SYS_EXECVEAT:      {name: "execveat", describe: execs(0, 1, 2, 3)},
		// Signal 0 only checks that a process exists. These calls do not send signals to threads.
		unix.SYS_KILL:              {name: "kill", describe: kills, where: condition{arg: 1, least: 1}},
		unix.SYS_PIDFD_SEND_SIGNAL: {name: "pidfd_send_signal", describe: kills, where: condition{arg: 1, least: 1}},
		unix.SYS_IOCTL:             {name: "ioctl", describe: controls, where: condition{arg: 1, values: ioctlNumbers()}},
		// IPT_SO_BASE_CTL; options of sockets themselves are lower or at another level.
		unix.SYS_SETSOCKOPT: {name: "setsockopt", describe: replacesTable, where: condition{arg: 2, least: 64}},
	}
}
