/*
 * pause is process 1 of every pod sandbox: it holds the pod's namespaces and,
 * when the pod shares its process namespace, reaps orphans. It sleeps until a
 * signal comes. Without a C library it is one page of code and as much memory.
 */

#if defined(__x86_64__)

enum { SYS_wait4 = 61, SYS_exit_group = 231, SYS_rt_sigprocmask = 14, SYS_rt_sigtimedwait = 128 };

static long syscall4(long n, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__)

enum { SYS_wait4 = 260, SYS_exit_group = 94, SYS_rt_sigprocmask = 135, SYS_rt_sigtimedwait = 137 };

static long syscall4(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

#else
#error "pause: system calls of this architecture are not known"
#endif

enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, SIG_BLOCK = 0, WNOHANG = 1 };

#define BIT(sig) (1UL << ((sig) - 1))

__attribute__((noreturn, used)) void _start(void)
{
	/* Blocked signals stay pending for process 1 too, whose unhandled
	   signals the kernel would otherwise drop. */
	unsigned long set = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);

	syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof set);
	for (;;) {
		long sig = syscall4(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof set);

		if (sig == SIGCHLD)
			while (syscall4(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
				;
		else if (sig > 0)
			syscall4(SYS_exit_group, 0, 0, 0, 0);
	}
}
