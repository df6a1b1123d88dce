/*
 * bootwire-supervisor [-l LOGFILE] [-n NETWORK] -- /PATH/COMMAND ARG...
 * bootwire-supervisor --kexec          starts the kernel that the running system has loaded
 * bootwire-supervisor --hold FILE...   keeps files in memory, and those that the first process runs on
 *
 * NETWORK is a file of a network namespace for the agent. This program stays outside: the kernel
 * knows the family "nbd" of netlink in the first namespace only.
 *
 * Keeps the agent running, which serves the root disk, and does for it what Node cannot: netlink,
 * kexec, and flags that all threads carry only when they are set before exec. The protocol between
 * the two is in ARCHITECTURE.md, "The supervisor".
 *
 * What holds always:
 * - While the root waits for an agent nothing here may wait for the root: after the start no memory
 *   is allocated, all of it is locked, no file is held but sockets and the log, and nobody is
 *   waited for who reads messages or answers.
 * - While a device is attached nothing ends this program: a root that waits can be saved, one that
 *   had I/O errors cannot.
 * - Of an attached NBD socket the agent alone has one end and the kernel alone the other, since the
 *   end of the socket is how each of them learns that the other is gone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <linux/reboot.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Descriptors of the agent. Ours are those from 5 on. */
enum { AGENT_CONTROL_FD = 3, AGENT_NBD_FD = 4 };

/* Of ours, when the command line is wrong; of the agent, when another one would do no better. */
enum { STATUS_USAGE = 2, STATUS_DO_NOT_RESTART = 64 };

/* Who lives shorter than 2 s had no time to serve; five such lives in a row are at most 10 s. */
enum { QUICK_DEATH_MS = 2000, HOPELESS_DEATHS = 5 };

/* Pauses before a restart: none, then 50 ms, and twice as much each time. At most 1 s, since an
 * agent that would work now should not be kept from a waiting root, and one start a second leaves
 * the machine usable. Where no device is attached only people wait, who read the screen. */
enum { PAUSE_MS = 50, LONGEST_PAUSE_MS = 1000, HOPELESS_PAUSE_MS = 5000 };

/* An agent may promise to be heard of, so that one that hangs is ended like one that died. When it is
 * late it has this much longer: it and this program may have been stopped together. */
enum { SECOND_CHANCE_MS = 5000, LONGEST_PROMISE_SECONDS = 3600 };

/* How long others may keep the device open at a detach; udev looks into it at every change. */
enum { DETACH_TIMEOUT_MS = 5000, DETACH_STEP_MS = 10 };

/* The kernel fails requests when no new agent came for so long: longer than any outage. */
enum { DEAD_CONNECTION_TIMEOUT_SECONDS = 365 * 24 * 3600 };

/* Two paths of 4 KiB, and the 2 KiB that the command line of a kernel may have. */
enum { LINE_BYTES = 10 * 1024 };

/* What the kernel says about the family is less than 1 KiB. */
enum { NETLINK_BYTES = 8 * 1024, NETLINK_TIMEOUT_SECONDS = 10, BACKEND_ID_BYTES = 255 };

static int log_fd = -1;
static int network_fd = -1;

static struct {
    char **command;
    pid_t pid;              /* 0: none runs */
    int control_fd;         /* -1: none, or the agent closed it */
    int kernel_end_fd;      /* of the NBD socket; -1 when it was attached */
    int agent_end_fd;       /* a copy of the agent's; -1 when it was attached */
    int64_t started_ms;
    int64_t restart_ms;     /* when none runs, the time to start the next */
    int64_t promise_ms;     /* by when it will be heard of; 0 when it has not promised */
    bool is_late;
    unsigned restarts;
    unsigned quick_deaths;  /* in a row */
    char line[LINE_BYTES];
    size_t line_bytes;
    bool line_is_too_long;  /* its end is still to come */
} agent = {.control_fd = -1, .kernel_end_fd = -1, .agent_end_fd = -1};

/* Index -1: none is attached. */
static struct {
    int64_t index;
    uint64_t size_bytes;
} device = {.index = -1};

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Drops what cannot be written at once: who stops a console must not stop the supervisor. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char text[256];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    struct pollfd outputs[] = {{.fd = STDERR_FILENO, .events = POLLOUT},
                               {.fd = log_fd, .events = POLLOUT}};
    poll(outputs, 2, 0);
    for (int i = 0; i < 2; i++)
        if (outputs[i].revents != 0) dprintf(outputs[i].fd, "bootwire-supervisor: %s\n", text);
}

/* -- netlink -- */

struct message {
    struct nlmsghdr header;
    struct genlmsghdr generic;
    char attributes[512]; /* BACKEND_ID_BYTES, and 100 for all others */
};

static void begin_message(struct message *message, uint16_t family, uint8_t command)
{
    message->header = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN),
                                        .nlmsg_type = family,
                                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK};
    message->generic = (struct genlmsghdr){.cmd = command, .version = 1};
}

static void put(struct message *message, uint16_t type, const void *value, size_t length)
{
    const struct nlattr header = {.nla_len = (uint16_t)(sizeof header + length), .nla_type = type};
    const size_t at = message->header.nlmsg_len, end = at + NLMSG_ALIGN(sizeof header + length);
    if (end > sizeof *message) abort(); /* see struct message */
    memset((char *)message + at, 0, end - at);
    memcpy((char *)message + at, &header, sizeof header);
    memcpy((char *)message + at + sizeof header, value, length);
    message->header.nlmsg_len = (uint32_t)end;
}

/* One socket: an item, in a list of items. */
static void put_socket(struct message *message, int fd)
{
    struct {
        struct nlattr item, socket;
        uint32_t fd;
    } list = {.item = {sizeof list, NLA_F_NESTED | NBD_SOCK_ITEM},
              .socket = {sizeof list - sizeof list.item, NBD_SOCK_FD},
              .fd = (uint32_t)fd};
    put(message, NLA_F_NESTED | NBD_ATTR_SOCKETS, &list, sizeof list);
}

/* Returns the family's number in an answer of the controller, 0 when there is none. */
static uint16_t family_of(const struct nlmsghdr *message)
{
    struct nlattr header;
    uint16_t family;
    for (size_t at = NLMSG_LENGTH(GENL_HDRLEN); at + sizeof header <= message->nlmsg_len;) {
        memcpy(&header, (const char *)message + at, sizeof header);
        if (header.nla_len < sizeof header || header.nla_len > message->nlmsg_len - at) break;
        const char *value = (const char *)message + at + sizeof header;
        at += NLMSG_ALIGN(header.nla_len);
        if (header.nla_type != CTRL_ATTR_FAMILY_ID) continue;
        if (header.nla_len < sizeof header + sizeof family) break;
        memcpy(&family, value, sizeof family);
        return family;
    }
    return 0;
}

/* Sends a request and reads up to its acknowledgment. Returns 0 or an errno. */
static int transact(int netlink_fd, const struct message *message, uint16_t *family)
{
    static _Alignas(struct nlmsghdr) char buffer[NETLINK_BYTES];
    if (send(netlink_fd, message, message->header.nlmsg_len, 0) < 0) return errno;
    for (;;) {
        ssize_t received = recv(netlink_fd, buffer, sizeof buffer, 0);
        if (received < 0 && errno == EINTR) continue;
        if (received < 0) return errno;
        for (struct nlmsghdr *next = (struct nlmsghdr *)buffer; NLMSG_OK(next, received);
             next = NLMSG_NEXT(next, received)) {
            if (next->nlmsg_type == GENL_ID_CTRL) *family = family_of(next);
            if (next->nlmsg_type != NLMSG_ERROR) continue;
            if (next->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr))) return EBADMSG;
            return -((struct nlmsgerr *)NLMSG_DATA(next))->error;
        }
    }
}

/* Has the nbd driver do what the message says. Returns 0 or an errno. */
static int ask_driver(struct message *message)
{
    static struct message lookup;
    const struct timeval timeout = {.tv_sec = NETLINK_TIMEOUT_SECONDS};
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    uint16_t family = 0;
    int netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    if (netlink_fd < 0) return errno;
    setsockopt(netlink_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    connect(netlink_fd, (const struct sockaddr *)&kernel, sizeof kernel); /* nobody else answers */
    begin_message(&lookup, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    put(&lookup, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof NBD_GENL_FAMILY_NAME);
    int error = transact(netlink_fd, &lookup, &family);
    if (error == 0) {
        message->header.nlmsg_type = family;
        error = transact(netlink_fd, message, &family);
    } else if (error == ENOENT) {
        error = EOPNOTSUPP; /* no such family */
    }
    close(netlink_fd);
    return error;
}

/* -- requests -- */

/* What a request is answered with: "error ERROR TEXT", or "ok TEXT" when the error is 0. */
struct result {
    int error;
    const char *text;
};

static struct result driver_error(int error)
{
    if (error != EOPNOTSUPP) return (struct result){error, strerror(error)};
    return (struct result){error, "the kernel has no nbd netlink family: is the module loaded?"};
}

/* Takes a word; words are parted by one space. Returns NULL when there is none. */
static char *next_word(char **rest)
{
    char *word = strsep(rest, " ");
    return word == NULL || *word == '\0' ? NULL : word;
}

static bool next_number(char **rest, uint64_t most, uint64_t *number)
{
    const char *word = next_word(rest);
    if (word == NULL || word[strspn(word, "0123456789")] != '\0') return false;
    errno = 0;
    *number = strtoull(word, NULL, 10);
    return errno == 0 && *number <= most;
}

/* The driver has this file from connect until nobody has the device open any more. */
static bool is_connected(int64_t index)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/block/nbd%lld/pid", (long long)index);
    return access(path, F_OK) == 0;
}

/* Whether there is a device to serve; somebody else may have disconnected it. */
static bool is_attached(void)
{
    if (device.index >= 0 && !is_connected(device.index)) device.index = -1;
    return device.index >= 0;
}

/*
 * Closes our ends of the socket. The driver says success also when it did not take the socket since
 * it has not noticed yet that the former one is dead; ours was then the last end on that side, and
 * the agent's end shows that at once.
 */
static bool let_go_of_socket(void)
{
    struct pollfd agent_end = {.fd = agent.agent_end_fd};
    close_fd(&agent.kernel_end_fd);
    bool is_taken = poll(&agent_end, 1, 0) == 0;
    close_fd(&agent.agent_end_fd);
    return is_taken;
}

/*
 * There is one connection, and no timeout of NBD's own: with either the driver would take an agent
 * that waits for its server for a dead one. A device that is attached already gets the new socket
 * and nothing else: with a size the driver would wait for requests that wait for the socket.
 */
static struct result attach(char *rest)
{
    static struct message message;
    const uint64_t patience_seconds = DEAD_CONNECTION_TIMEOUT_SECONDS;
    uint64_t index, size_bytes, block_bytes, flags;
    if (!next_number(&rest, INT32_MAX, &index) || !next_number(&rest, INT64_MAX, &size_bytes) ||
        !next_number(&rest, INT32_MAX, &block_bytes) || !next_number(&rest, UINT16_MAX, &flags))
        return (struct result){EINVAL, "expected the numbers INDEX SIZE BLOCK_BYTES NBD_FLAGS"};
    const char *backend_id = next_word(&rest);
    if (backend_id == NULL || rest != NULL || strlen(backend_id) > BACKEND_ID_BYTES)
        return (struct result){EINVAL, "expected a BACKEND_ID of 1 to 255 bytes at the end"};
    if (agent.kernel_end_fd < 0)
        return (struct result){EALREADY, "this agent's socket is attached, or was"};
    const bool again = is_attached();
    if (again && ((int64_t)index != device.index || size_bytes != device.size_bytes))
        return (struct result){EINVAL, "a device is attached with another index or size"};

    begin_message(&message, 0, again ? NBD_CMD_RECONFIGURE : NBD_CMD_CONNECT);
    put(&message, NBD_ATTR_INDEX, &(uint32_t){(uint32_t)index}, sizeof(uint32_t));
    put(&message, NBD_ATTR_BACKEND_IDENTIFIER, backend_id, strlen(backend_id) + 1);
    put_socket(&message, agent.kernel_end_fd);
    if (!again) {
        put(&message, NBD_ATTR_SIZE_BYTES, &size_bytes, sizeof size_bytes);
        put(&message, NBD_ATTR_BLOCK_SIZE_BYTES, &block_bytes, sizeof block_bytes);
        put(&message, NBD_ATTR_SERVER_FLAGS, &flags, sizeof flags);
        put(&message, NBD_ATTR_DEAD_CONN_TIMEOUT, &patience_seconds, sizeof patience_seconds);
    }
    const int error = ask_driver(&message);
    if (error != 0) return driver_error(error);
    device.index = (int64_t)index;
    device.size_bytes = size_bytes;
    if (!let_go_of_socket())
        return (struct result){EBUSY, "the kernel still has the former agent's socket: exit"};
    return (struct result){0, again ? "reconnected" : "connected"};
}

static struct result detach(char *rest)
{
    static struct message message;
    const struct timespec step = {.tv_nsec = DETACH_STEP_MS * 1000000L};
    uint64_t index;
    if (!next_number(&rest, INT32_MAX, &index) || rest != NULL)
        return (struct result){EINVAL, "expected INDEX"};
    begin_message(&message, 0, NBD_CMD_DISCONNECT);
    put(&message, NBD_ATTR_INDEX, &(uint32_t){(uint32_t)index}, sizeof(uint32_t));
    const int error = ask_driver(&message);
    if (error != 0) return driver_error(error);
    if (device.index == (int64_t)index) device.index = -1;
    for (int64_t late_ms = now_ms() + DETACH_TIMEOUT_MS; is_connected((int64_t)index);) {
        if (now_ms() > late_ms) return (struct result){EBUSY, "disconnected, but still open"};
        nanosleep(&step, NULL);
    }
    return (struct result){0, "disconnected"};
}

/* Comes back only with an error. */
static void start_loaded_kernel(void)
{
    syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
}

static struct result kexec(char *rest)
{
    const char *kernel = next_word(&rest), *initrd = next_word(&rest);
    if (kernel == NULL || initrd == NULL || rest == NULL)
        return (struct result){EINVAL, "expected KERNEL_PATH INITRD_PATH CMDLINE"};
    int kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
    int initrd_fd = kernel_fd < 0 ? -1 : open(initrd, O_RDONLY | O_CLOEXEC);
    bool is_loaded = initrd_fd >= 0 && syscall(SYS_kexec_file_load, kernel_fd, initrd_fd,
                                               strlen(rest) + 1, rest, 0UL) == 0;
    if (is_loaded) start_loaded_kernel();
    const struct result result = {errno, kernel_fd < 0   ? "the kernel cannot be opened"
                                         : initrd_fd < 0 ? "the initrd cannot be opened"
                                         : !is_loaded    ? "the kernel cannot be loaded"
                                                         : "the kernel cannot be started"};
    close_fd(&kernel_fd);
    close_fd(&initrd_fd);
    return result;
}

/* Said every few seconds: the answer is not worth a line in the log. */
static const char NOTED[] = "noted";

static struct result promise(char *rest)
{
    uint64_t seconds;
    if (!next_number(&rest, LONGEST_PROMISE_SECONDS, &seconds) || rest != NULL)
        return (struct result){EINVAL, "expected SECONDS, at most 3600"};
    agent.promise_ms = seconds == 0 ? 0 : now_ms() + (int64_t)seconds * 1000;
    agent.is_late = false;
    return (struct result){0, NOTED};
}

static struct result handle_request(char *line, size_t length)
{
    if (strlen(line) != length) return (struct result){EINVAL, "a zero byte in the line"};
    const char *request = strsep(&line, " ");
    if (strcmp(request, "attach") == 0) return attach(line);
    if (strcmp(request, "detach") == 0) return detach(line);
    if (strcmp(request, "kexec") == 0) return kexec(line);
    if (strcmp(request, "alive") == 0) return promise(line);
    return (struct result){EINVAL, "expected attach, detach, kexec or alive"};
}

/* An agent that lets its answers pile up loses the connection. */
static void answer(struct result result)
{
    char text[256];
    if (result.error == 0)
        snprintf(text, sizeof text, "ok %s\n", result.text);
    else
        snprintf(text, sizeof text, "error %d %s\n", result.error, result.text);
    if (send(agent.control_fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        close_fd(&agent.control_fd);
    if (result.text == NOTED) return;
    text[strcspn(text, "\n")] = '\0';
    say("answered: %s", text);
}

static void read_requests(void)
{
    char *line = agent.line, *newline;
    const ssize_t received = recv(agent.control_fd, line + agent.line_bytes,
                                  sizeof agent.line - agent.line_bytes, MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (received <= 0) {
        close_fd(&agent.control_fd);
        return;
    }
    agent.line_bytes += (size_t)received;
    while ((newline = memchr(line, '\n', agent.line_bytes)) != NULL) {
        const size_t length = (size_t)(newline - line);
        *newline = '\0';
        answer(agent.line_is_too_long ? (struct result){EMSGSIZE, "the line is too long"}
                                      : handle_request(line, length));
        agent.line_is_too_long = false;
        line = newline + 1;
        agent.line_bytes -= length + 1;
    }
    memmove(agent.line, line, agent.line_bytes);
    if (agent.line_bytes < sizeof agent.line) return;
    agent.line_is_too_long = true;
    agent.line_bytes = 0;
}

/* -- the agent's life -- */

/* In the child: all as a program expects it, and the two sockets. */
_Noreturn static void become_agent(int control_fd, int nbd_fd)
{
    char restarts[16];
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* where its helpers are found when it is dead */
    snprintf(restarts, sizeof restarts, "%u", agent.restarts);
    setenv("BOOTWIRE_RESTARTS", restarts, 1);
    setenv("BOOTWIRE_CONTROL_FD", "3", 1);
    setenv("BOOTWIRE_NBD_FD", "4", 1);
    dup2(control_fd, AGENT_CONTROL_FD);
    dup2(nbd_fd, AGENT_NBD_FD);
    if (network_fd >= 0 && setns(network_fd, CLONE_NEWNET) != 0)
        say("the agent stays in the network of the system: %s", strerror(errno));
    const char *path = agent.command[0];
    agent.command[0] = (char[]){"@bootwire-agent"};
    execv(path, agent.command);
    say("cannot run %s: %s", path, strerror(errno));
    _exit(127);
}

static void forget_sockets(void)
{
    close_fd(&agent.control_fd);
    close_fd(&agent.kernel_end_fd);
    close_fd(&agent.agent_end_fd);
    agent.line_bytes = 0;
    agent.line_is_too_long = false;
    agent.promise_ms = 0;
}

static void start_agent(void)
{
    int control[] = {-1, -1}, nbd[] = {-1, -1};
    agent.started_ms = now_ms();
    agent.pid = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) == 0 &&
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, nbd) == 0)
        agent.pid = fork();
    if (agent.pid == 0) become_agent(control[1], nbd[1]);
    close_fd(&control[1]);
    agent.control_fd = control[0];
    agent.kernel_end_fd = nbd[0];
    agent.agent_end_fd = nbd[1];
    if (agent.pid > 0) return;
    say("cannot start the agent: %s", strerror(errno));
    forget_sockets();
    agent.pid = 0;
    agent.restart_ms = agent.started_ms + LONGEST_PAUSE_MS;
}

/* Counts the death that has just happened, and returns how long to wait before the next start. */
static int next_pause_ms(void)
{
    const bool quick = now_ms() - agent.started_ms < QUICK_DEATH_MS;
    agent.quick_deaths = quick ? agent.quick_deaths + 1 : 0;
    if (agent.quick_deaths >= HOPELESS_DEATHS && !is_attached()) return HOPELESS_PAUSE_MS;
    if (agent.quick_deaths <= 1) return 0;
    const unsigned doublings = agent.quick_deaths - 2;
    return doublings > 4 ? LONGEST_PAUSE_MS : PAUSE_MS << doublings; /* 4: 800 ms */
}

/* When the agent is dead, plans the next start, or ends with it when it meant to end. */
static void bury_agent(void)
{
    siginfo_t death = {0};
    if (waitid(P_PID, (id_t)agent.pid, &death, WEXITED | WNOHANG | WNOWAIT) != 0) return;
    if (death.si_pid == 0) return;
    /* Helpers it left would work beside the next agent's, and might hold its NBD socket. As long as
     * it is not waited for its number is not given to another. */
    kill(-agent.pid, SIGKILL);
    waitpid(agent.pid, NULL, 0);
    agent.pid = 0;
    forget_sockets();
    const bool exited = death.si_code == CLD_EXITED;
    const bool meant = death.si_status == 0 || death.si_status == STATUS_DO_NOT_RESTART;
    if (exited && meant && !is_attached()) exit(death.si_status);
    const int pause_ms = next_pause_ms();
    agent.restart_ms = now_ms() + pause_ms;
    agent.restarts++;
    say("the agent %s %d; restart %u in %d ms%s", exited ? "exited with status" : "died of signal",
        death.si_status, agent.restarts, pause_ms,
        pause_ms == HOPELESS_PAUSE_MS ? ": it does not stay up" : "");
}

/* Ends an agent that does not keep its promise. Returns how long to wait at most; -1 for ever. */
static int watch_agent(void)
{
    if (agent.promise_ms == 0) return -1;
    const int64_t left_ms = agent.promise_ms - now_ms();
    if (left_ms > 0) return (int)left_ms;
    if (!agent.is_late) {
        agent.is_late = true;
        agent.promise_ms = now_ms() + SECOND_CHANCE_MS;
        return SECOND_CHANCE_MS;
    }
    say("the agent hangs: it was not heard of for longer than it had promised");
    agent.promise_ms = 0;
    kill(agent.pid, SIGKILL);
    return -1;
}

_Noreturn static void supervise(int signal_fd)
{
    static struct signalfd_siginfo received;
    for (;;) {
        if (agent.pid == 0 && now_ms() >= agent.restart_ms) start_agent();
        const int64_t pause_ms = agent.pid > 0 ? watch_agent() : agent.restart_ms - now_ms();
        struct pollfd waits[] = {{.fd = signal_fd, .events = POLLIN},
                                 {.fd = agent.control_fd, .events = POLLIN}};
        if (agent.pid == 0 && pause_ms <= 0) continue;
        if (poll(waits, 2, (int)pause_ms) < 0) continue; /* stopped and continued */
        if (waits[1].revents != 0) read_requests();
        if (waits[0].revents == 0) continue;
        if (read(signal_fd, &received, sizeof received) > 0 && agent.pid > 0) bury_agent();
    }
}

/* -- the start -- */

_Noreturn static void refuse(const char *what)
{
    say("%s\nusage: bootwire-supervisor [-l LOGFILE] [-n NETWORK] -- /PATH/COMMAND ARG...",
        what);
    exit(STATUS_USAGE);
}

/* Leaves 0, 1 and 2 open, 3 and 4 taken so that they are free in the agent, and nothing else. */
static void tidy_descriptors(void)
{
    close_range(AGENT_CONTROL_FD, ~0U, 0);
    for (int fd = 0; fd < AGENT_NBD_FD;) {
        fd = open("/dev/null", O_RDWR);
        if (fd < 0) refuse("there is no /dev/null");
    }
    dup2(AGENT_NBD_FD, STDIN_FILENO);
}

static int open_signals(void)
{
    const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* where the parent ignored it, there would be no death to wait for */
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child, NULL);
    return signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void become_storage_daemon(char *own_name)
{
    /* systemd spares such processes of root at switch-root and at shutdown. */
    *own_name = '@';
    if (setsid() < 0 && getsid(0) != getpid()) say("no session of its own: %s", strerror(errno));
    if (chdir("/") != 0) say("stays in its folder: %s", strerror(errno));
    /* Memory it asks for must not wait for pages that only the agent can write back. */
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
        say("is no I/O flusher, and may hang when memory is short: %s", strerror(errno));
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) say("is not locked: %s", strerror(errno));
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "-1000", 5) != 5)
        say("may be killed when memory is short: %s", strerror(errno));
    close_fd(&fd);
}

static void hold_file(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat file;
    if (fd < 0) return;
    if (fstat(fd, &file) == 0 && file.st_size > 0) {
        void *pages = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (pages == MAP_FAILED || mlock(pages, (size_t)file.st_size) != 0)
            say("cannot hold %s: %s", path, strerror(errno));
    }
    close(fd);
}

/* What a system needs to switch itself off must be there when nobody can bring it any more. A process like
 * any other: it ends with them, before the root is unmounted. */
_Noreturn static void hold_files(char *paths[])
{
    FILE *maps = fopen("/proc/1/maps", "re");
    char line[PATH_MAX + 128];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        char *path = strchr(line, '/');
        if (path == NULL || strstr(line, " r-xp ") == NULL) continue;
        path[strcspn(path, "\n")] = '\0';
        hold_file(path);
    }
    if (maps != NULL) fclose(maps);
    for (; *paths != NULL; paths++) hold_file(*paths);
    for (;;) pause();
}

int main(int argc, char *argv[])
{
    const char *log_path = NULL, *network_path = NULL;
    if (argc == 2 && strcmp(argv[1], "--kexec") == 0) {
        start_loaded_kernel();
        say("the loaded kernel cannot be started: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    if (argc > 2 && strcmp(argv[1], "--hold") == 0) hold_files(argv + 2);
    for (int option; (option = getopt(argc, argv, "+l:n:")) != -1;) {
        if (option == 'l') log_path = optarg;
        else if (option == 'n') network_path = optarg;
        else refuse("no such option");
    }
    agent.command = argv + optind;
    if (optind >= argc || *agent.command[0] != '/') refuse("expected a command with its full path");
    if (access(agent.command[0], X_OK) != 0) refuse("the command cannot be run");
    tidy_descriptors();
    if (log_path != NULL) log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_path != NULL && log_fd < 0) refuse("the log file cannot be written");
    if (network_path != NULL) network_fd = open(network_path, O_RDONLY | O_CLOEXEC);
    if (network_path != NULL && network_fd < 0) refuse("there is no such network");
    const int signal_fd = open_signals();
    if (signal_fd < 0) refuse("there is no descriptor for signals");
    become_storage_daemon(argv[0]);
    supervise(signal_fd);
}
