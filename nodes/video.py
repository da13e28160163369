"""Load, save and preview videos."""

from __future__ import annotations

from .checks import ABSENT, loading_faults, verdict, video_faults
from .choices import ALPHA, AUDIO_LENGTHS, FITS, LOADED, RENDERED
from .host import host, io, ui
from .inputs import (
    MAX_FRAMES,
    MAX_SIZE,
    boolean,
    combo,
    filename_prefix,
    integer,
    number,
    saving_rate,
    seconds,
    video_format,
)

CATEGORY = "VideoLDM/video"


def saved(path, *, temp: bool = False):
    """The UI output for saved files: a video for mp4, webm and mov, images for all others."""
    from .stages.media import shown_files

    kind = io.FolderType.temp if temp else io.FolderType.output
    results = [ui.SavedResult(*file, kind) for file in shown_files(host, path)]
    is_video = path.suffix in (".mp4", ".webm", ".mov")
    return ui.PreviewVideo(results) if is_video else {"images": results}


VideoEdit = getattr(io, "VideoEdit", None) or io.Custom("VIDEO_EDIT")
"""ComfyUI's widget for trim and crop where it has one, else a socket of the same type."""


def loading_inputs() -> list[io.Input]:
    """Load Video's basic inputs: file, range of frames, size."""
    return [
        io.Combo.Input(
            "file", options=[*RENDERED, *host.folders.input_names("moving")],
            default=RENDERED[0], upload=io.UploadType.video,
            tooltip="A rendered video (61 frames of 64x64), or a file or image folder in the input "
            "folder.",
        ),
        integer("start", 0, 0, MAX_FRAMES, "The first frame to load, counted from 0."),
        integer("count", 0, 0, MAX_FRAMES, "How many frames to load; 0 loads all."),
        integer("stride", 1, 1, 1000, "Load every n-th frame."),
        integer("width", 0, 0, MAX_SIZE, "Width in pixels; 0 keeps the video's own."),
        integer("height", 0, 0, MAX_SIZE, "Height in pixels; 0 keeps the video's own."),
        io.Combo.Input(
            "fit", options=list(FITS), default=FITS[0],
            tooltip="How a video with another aspect ratio is made to fit: cropped or stretched.",
        ),
        integer(
            "multiple_of", 8, 1, 64,
            "Sides are cropped to a multiple of this; most VAEs need 8, the pack's own needs 4.",
        ),
    ]  # fmt: skip


def loading_outputs() -> list[io.Output]:
    return [
        io.Image.Output("images", display_name="images", tooltip="The frames."),
        io.Float.Output("frame_rate", display_name="frame_rate", tooltip="Frames per second."),
        io.Int.Output("frames", display_name="frames", tooltip="Number of frames."),
        io.Audio.Output("audio", display_name="audio", tooltip="The sound, if the video has any."),
        io.Mask.Output(
            "mask",
            display_name="mask",
            tooltip="Transparency: 1 is transparent. All 0 unless alpha is kept.",
        ),
        io.Video.Output(
            "video",
            display_name="video",
            tooltip="The same frames and sound as a video, read as they are needed.",
        ),
    ]


def selection_inputs() -> list[io.Input]:
    """Load Video's advanced inputs: selection by time, transparency, what to load."""
    return [
        number(
            "force_rate", 0.0, 0.0, 240.0,
            "Resample the video to this many frames per second first, each frame being the picture "
            "shown at its time; start, count and stride then count these frames. 0 takes the "
            "frames as they are stored.", step=0.01, optional=True, advanced=True,
        ),
        seconds("start_time", "Begin with the frame shown at this second, instead of start."),
        seconds("duration", "Load this many seconds, instead of count; 0 loads all."),
        boolean(
            "ping_pong", "Play the frames forwards, then backwards without repeating the first and "
            "the last; the sound as well.",
        ),
        combo(
            "alpha", ALPHA, "Transparent videos: laid over black, or kept transparent in the "
            "outputs mask and video.",
        ),
        combo(
            "load", LOADED, "Video only: nothing but the output video, whose frames are read as "
            "they are needed, for files that do not fit into memory.",
        ),
        VideoEdit.Input(
            "edit", optional=True,
            tooltip="Trim in seconds and crop in pixels, applied before everything else; a widget "
            "in ComfyUI 0.35 or newer.",
        ),
    ]  # fmt: skip


def saving_inputs() -> list[io.Input]:
    """Save Video's inputs beyond format, quality and frames."""
    return [
        boolean(
            "ping_pong", "Play the frames forwards, then backwards without repeating the first and "
            "the last; the sound of a video as well.",
        ),
        integer(
            "loop_count", 0, 0, 65535, "How many times gif, webp and apng play; 0 is for ever.",
            optional=True, advanced=True,
        ),
        combo(
            "audio_length", AUDIO_LENGTHS, "As the frames: longer sound is cut, shorter sound is "
            "followed by silence. As the shorter of both: frames beyond the sound are cut as well.",
        ),
        io.Mask.Input(
            "mask", optional=True,
            tooltip="Transparency of the images: 1 is transparent. Kept by webm, mov (ProRes "
            "4444), gif, webp, apng and png.",
        ),
    ]  # fmt: skip


def clip_inputs() -> list[io.Input]:
    return [
        io.Video.Input("video", optional=True, tooltip="A video; or connect images instead."),
        io.Image.Input("images", optional=True, tooltip="Frames; or connect a video instead."),
        io.Audio.Input(
            "audio", optional=True,
            tooltip="Sound, cut or filled up to the length of the frames. Without it, a video "
            "keeps its own. GIF, WebP, APNG and PNG carry none.",
        ),
    ]  # fmt: skip


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_LoadVideo",
            display_name="Load Video (Video LDM)",
            category=CATEGORY,
            description="Loads frames of a video, an animated image or a folder of images from the "
            "input folder, by number or by time, and its sound; or renders a small video, so that "
            "workflows run without a file.",
            search_aliases=[
                "load video", "vhs load video", "video to frames", "load gif",
                "load image sequence",
            ],
            inputs=[
                *loading_inputs(),
                *selection_inputs(),
            ],
            outputs=loading_outputs(),
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, file=None, start=ABSENT, count=ABSENT, stride=ABSENT, start_time=ABSENT,
        duration=ABSENT, force_rate=ABSENT,
    ) -> bool | str:  # fmt: skip
        def faults(values, connected):
            return loading_faults({**values, "file": file}, connected)

        given = {"start": start, "count": count, "stride": stride, "start_time": start_time}
        given |= {"duration": duration, "force_rate": force_rate}
        fault = None if file in RENDERED else host.folders.input_fault(file)
        return fault or verdict(cls, faults, **given)

    @classmethod
    def fingerprint_inputs(cls, file, **inputs) -> float:
        return 0.0 if file in RENDERED else host.folders.input_changed(file)

    @classmethod
    def execute(cls, file, **settings) -> io.NodeOutput:
        from .stages.loading import Excerpt, load_video
        from .stages.previewing import preview_selection

        excerpt = Excerpt(**settings)
        loaded = load_video(host, file, excerpt)
        preview = preview_selection(host, file, excerpt, loaded)
        return io.NodeOutput(*loaded, ui=preview and saved(preview, temp=True))


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_SaveVideo",
            display_name="Save Video (Video LDM)",
            category=CATEGORY,
            description="Saves a video or frames into the output folder, chunk by chunk. The file "
            "carries the workflow, which can be opened from it again.",
            search_aliases=[
                "video combine", "vhs video combine", "save video", "export video", "save gif",
                "save webm", "create mp4",
            ],
            inputs=[
                filename_prefix("video/VideoLDM"),
                video_format(),
                integer(
                    "quality", 18, 0, 51,
                    "Quality of mp4, webm and webp, as x264's CRF counts it: 0 is lossless, 51 the "
                    "smallest file.",
                ),
                saving_rate(),
                *clip_inputs(),
                *saving_inputs(),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
            outputs=[],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None, video=ABSENT, images=ABSENT):
        fault = host.folders.prefix_fault(filename_prefix)
        return fault or verdict(cls, video_faults, video=video, images=images)

    @classmethod
    def execute(
        cls, filename_prefix, frame_rate, video=None, images=None, audio=None, mask=None, **settings
    ) -> io.NodeOutput:
        from .stages.media import FileSettings, Source, filled_prefix, save_video, stream_of

        settings, metadata = FileSettings(**settings), host.metadata(cls.hidden)
        source = Source(video=video, images=images, audio=audio, mask=mask, frame_rate=frame_rate)
        stream = stream_of(host, source, settings)
        path = save_video(
            host, stream, filled_prefix(filename_prefix, cls.hidden), settings, metadata
        )
        return io.NodeOutput(ui=saved(path))


class PreviewVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VideoLDM_PreviewVideo",
            display_name="Preview Video (Video LDM)",
            category=CATEGORY,
            description="Plays a video or frames in the node; the file is temporary.",
            search_aliases=[
                "preview video",
                "video combine",
                "play video",
                "preview animation",
                "view frames",
            ],
            inputs=[saving_rate(), *clip_inputs()],
            is_output_node=True,
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, frame_rate=ABSENT, video=ABSENT, images=ABSENT):
        # ComfyUI lists an error under each validated input that is present; frame_rate always is.
        return verdict(cls, video_faults, frame_rate=frame_rate, video=video, images=images)

    @classmethod
    def execute(cls, frame_rate, video=None, images=None, audio=None) -> io.NodeOutput:
        from .stages.media import FileSettings, Source, save_video, stream_of

        settings = FileSettings(quality=23)
        source = Source(video=video, images=images, audio=audio, frame_rate=frame_rate)
        stream = stream_of(host, source, settings)
        path = save_video(host, stream, "preview/VideoLDM", settings, {}, temp=True)
        return io.NodeOutput(ui=saved(path, temp=True))
