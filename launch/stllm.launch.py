"""ROS 2: ros2 launch stllm stllm.launch.py image:=/camera/color/image_raw map_points:=/map/points"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = [
    ("name", "stllm", "node name"),
    ("namespace", "", "namespace of the node"),
    ("model", "", "model folder, or the name of a built-in model; empty: the one of the parameter file"),
    ("image", "/camera/color/image_raw", "image topic; image/compressed goes with it"),
    ("camera_info", "/camera/color/camera_info", "camera_info topic"),
    ("map_points", "/map/points", "PointCloud2 of the map"),
    ("depth", "/camera/aligned_depth_to_color/image_raw", "depth images registered to the colour camera, used with a model that wants them; depth/compressedDepth goes with it"),
    ("use_sim_time", "false", "take the time from /clock"),
    ("autostart", "true", "load the model and start at once; false: wait for a lifecycle manager"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("rviz", "false", "open rviz2 with the node's displays"),
]


def generate_launch_description():
    share = FindPackageShare("stllm")
    value = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    arguments.append(
        DeclareLaunchArgument(
            "params",
            default_value=PathJoinSubstitution([share, "stllm.yaml"]),
            description="parameter file",
        )
    )
    node = Node(
        package="stllm",
        executable="stllm",
        name=value["name"],
        namespace=value["namespace"],
        output="screen",
        arguments=["node", "--transport", "ros2", ["--model=", value["model"]]],
        ros_arguments=["--log-level", value["log_level"]],
        parameters=[
            LaunchConfiguration("params"),
            {"use_sim_time": value["use_sim_time"], "autostart": value["autostart"]},
        ],
        remappings=[
            ("~/image", value["image"]),
            ("~/image/compressed", [value["image"], "/compressed"]),
            ("~/camera_info", value["camera_info"]),
            ("~/map_points", value["map_points"]),
            ("~/depth", value["depth"]),
            ("~/depth/compressedDepth", [value["depth"], "/compressedDepth"]),
        ],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name=["rviz_", value["name"]],
        namespace=value["namespace"],
        arguments=["-d", PathJoinSubstitution([share, "rviz", "stllm_ros2.rviz"])],
        parameters=[{"use_sim_time": value["use_sim_time"]}],
        # The displays' topics, as this launch names them; relative names are in the namespace, as the node's.
        remappings=[
            ("/stllm/markers", [value["name"], "/markers"]),
            ("/stllm/window_path", [value["name"], "/window_path"]),
            ("/map/points", value["map_points"]),
            ("/camera/color/image_raw", value["image"]),
        ],
        condition=IfCondition(value["rviz"]),
    )
    return LaunchDescription([*arguments, node, rviz])
