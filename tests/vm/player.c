/* Shows recorded frames to the camera of the virtual machine, a v4l2loopback device:
 *
 *   player DEVICE FORMAT WIDTH HEIGHT FPS FOLDER
 *
 * FORMAT is the four characters of V4L2. FOLDER holds one file a frame, played in the order of their names, again and again; it may
 * be a symbolic link and is followed anew at each turn, so that what is shown can be changed. "-" reads uncompressed frames from
 * standard input. Ends with 1 if the device goes away.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static char frame[4 << 20];

static void show(int device, size_t length, long pause)
{
	if (write(device, frame, length) < 0)
		err(1, "the camera takes no frame");
	usleep(pause);
}

static size_t fill(int file, size_t most)
{
	size_t length = 0;
	ssize_t got;
	while (length < most && (got = read(file, frame + length, most - length)) > 0)
		length += got;
	return length;
}

static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static void show_folder(int device, const char *folder, long pause)
{
	char now[PATH_MAX], before[PATH_MAX], path[PATH_MAX * 2];
	struct dirent **names;
	if (!realpath(folder, before))
		err(1, "%s", folder);
	int count = scandir(before, &names, visible, alphasort);
	if (count <= 0)
		errx(1, "%s holds no frame", folder);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%s", before, names[i]->d_name);
		int file = open(path, O_RDONLY);
		if (file < 0)
			err(1, "%s", path);
		show(device, fill(file, sizeof frame), pause);
		close(file);
		free(names[i]);
		if (!realpath(folder, now) || strcmp(now, before))
			while (++i < count)
				free(names[i]);
	}
	free(names);
}

int main(int count, char **arguments)
{
	if (count != 7 || strlen(arguments[2]) != 4)
		errx(2, "player DEVICE FORMAT WIDTH HEIGHT FPS FOLDER");
	const char *code = arguments[2];
	int width = atoi(arguments[3]), height = atoi(arguments[4]);
	long pause = 1000000 / atof(arguments[5]);
	int device = open(arguments[1], O_WRONLY);
	if (device < 0)
		err(1, "%s", arguments[1]);
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	if (ioctl(device, VIDIOC_G_FMT, &format) < 0)
		err(1, "%s is no output", arguments[1]);
	struct v4l2_pix_format *pixels = &format.fmt.pix;
	pixels->width = width;
	pixels->height = height;
	pixels->pixelformat = v4l2_fourcc(code[0], code[1], code[2], code[3]);
	pixels->field = V4L2_FIELD_NONE;
	pixels->bytesperline = 0;
	pixels->sizeimage = width * height * 3;
	pixels->colorspace = V4L2_COLORSPACE_SRGB;
	if (ioctl(device, VIDIOC_S_FMT, &format) < 0)
		err(1, "%s does not take %s", arguments[1], code);
	if (strcmp(arguments[6], "-"))
		for (;;)
			show_folder(device, arguments[6], pause);
	size_t length = pixels->sizeimage;
	while (fill(STDIN_FILENO, length) == length)
		show(device, length, pause);
	return 0;
}
